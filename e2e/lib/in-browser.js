// Runs inside the browser: one tab of somebody, made with a stock client of any age.

/** The objects of vsn 1.0.0, for clients that speak arrays by themselves. */
const V1_CODEC = {
  encode: ({ topic, event, payload, ref, join_ref }, done) => done(JSON.stringify({ topic, event, payload, ref, join_ref })),
  decode: (raw, done) => done(JSON.parse(raw)),
};

/** One JSON object per request, as long poll was before batches. */
function objectLongPoll(LongPoll) {
  return class ObjectLongPoll extends LongPoll {
    ajax(method, type, body, onTimeout, callback) {
      if (method !== "POST") {
        return super.ajax(method, type, body, onTimeout, callback);
      }
      const json = typeof type === "string" ? "application/json" : { ...type, "Content-Type": "application/json" };
      const [first, ...rest] = body.split("\n");
      return super.ajax("POST", json, first, onTimeout, (answer) => {
        if (rest.length > 0 && answer?.status === 200) {
          this.ajax("POST", type, rest.join("\n"), onTimeout, callback);
        } else {
          callback(answer);
        }
      });
    }
  };
}

export function openTab(library, { transport, vsn, original, topic, user }) {
  const { LongPoll, Presence, Socket } = library;
  const v1 = vsn === "1.0.0" && !original;
  const chosen = transport === "WebSocket" ? WebSocket : v1 ? objectLongPoll(LongPoll) : LongPoll;
  const socket = new Socket("/socket", { vsn, transport: chosen, reconnectAfterMs: () => 50, rejoinAfterMs: () => 50, ...(v1 ? V1_CODEC : {}) });
  socket.connect();
  const channel = socket.channel(topic, { user_id: user, meta: { by: navigator.product } });
  const tab = { socket, channel, here: {}, joins: 0, heard: [] };
  // The oldest client has only the two static functions, and they are in all of them.
  channel.on("presence_state", (state) => (tab.here = Presence.syncState(tab.here, state)));
  channel.on("presence_diff", (diff) => (tab.here = Presence.syncDiff(tab.here, diff)));
  for (const event of ["chat", "blob"]) {
    channel.on(event, (payload) => tab.heard.push(payload instanceof ArrayBuffer ? [...new Uint8Array(payload)] : payload));
  }
  channel.join().receive("ok", () => (tab.joins += 1));
  tab.users = () => Object.keys(tab.here).sort().join();
  tab.push = (event, payload) => new Promise((resolve, reject) => channel.push(event, payload, 30_000).receive("ok", resolve).receive("error", reject).receive("timeout", () => reject(new Error("timeout"))));
  tab.binary = async (event, values) => {
    const response = await tab.push(event, new Uint8Array(values).buffer);
    return response instanceof ArrayBuffer ? [...new Uint8Array(response)] : response;
  };
  return tab;
}
