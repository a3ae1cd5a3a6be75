// A client in a process of its own, to be killed: node lonely.js ADDRESS TOPIC

import { Client } from "./clients.js";

const [address, topic] = process.argv.slice(2);
await new Client(address).join(topic, { user_id: "lonely" });
