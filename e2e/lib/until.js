// Waiting for something to become true, with a deadline and a message that says what was missing.

const STEP_MS = 10;
const DEADLINE_MS = 30000;

/** Resolves with the first truthy result of `check`; rejects with `what` when the deadline passes. */
export async function until(what, check, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const result = await check();
    if (result) {
      return result;
    }
    if (Date.now() > end) {
      throw new Error(`not within ${deadlineMs} ms: ${typeof what === "function" ? what() : what}`);
    }
    await pause(STEP_MS);
  }
}

/** Only for showing that something does not happen within a stretch of time. */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
