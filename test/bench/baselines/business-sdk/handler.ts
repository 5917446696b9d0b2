import { FacebookAdsApi } from "facebook-nodejs-business-sdk";
import { shareHandler } from "../share-handler.ts";

/** Baseline (b): Meta by its own SDK. */
export const handler = shareHandler((baseUrl) => {
  // The SDK names its own version in the path, and takes another host only call by call.
  const host = new URL(baseUrl).origin;
  function apiOf(token: string) {
    return new FacebookAdsApi(token, "en_US", false);
  }
  return {
    get: (id, fields, token) => apiOf(token).call("GET", [id], { fields: fields.join(",") }, {}, false, host),
    list: async (id, edge, query, token) => {
      const { data } = await apiOf(token).call("GET", [id, edge], query, {}, false, host);
      return data as unknown[];
    },
    post: (id, edge, query, token) => apiOf(token).call("POST", [id, edge], query, {}, false, host),
  };
});
