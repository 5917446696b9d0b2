/** Detail types on the partner's own bus (design.md §4). The strings are the contract. */
export const eventSource = "credit-lines";

export const detailTypes = [
  "Share Accepted",
  "Share Verified",
  "Share Pending",
  "Share Mismatched",
  "Share Refused",
  "Verify Refused",
  "Revoke Refused",
  "Command Rejected",
  "Command Blocked",
  "Share In Doubt",
  "Revocation Started",
  "Credit Line Revoked",
  "Revocation Incomplete",
  "Revocation Held",
  "Revocations Stopped",
  "Revocations Resumed",
  "Drift Found",
  "Drift Closed",
  "Account Changed",
] as const;
