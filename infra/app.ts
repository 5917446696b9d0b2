import { App } from "aws-cdk-lib";
import { bundleFunctions } from "./bundle.ts";
import { stageConfigFromContext } from "./config.ts";
import { addStage } from "./synth.ts";

const app = new App();
const config = stageConfigFromContext({
  stage: app.node.tryGetContext("stage"),
  config: app.node.tryGetContext("config"),
});
addStage(app, config, await bundleFunctions());
