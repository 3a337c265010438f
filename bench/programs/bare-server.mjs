// The floor under POST /run: node:http that parses the same body and answers with as much text. Prints its URL.
import { createServer } from "node:http";

const REPLY = JSON.stringify({ id: "00000000-0000-4000-8000-000000000000-u1", status: "IN_QUEUE" });
const HEADERS = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(REPLY) };

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { input } = JSON.parse(Buffer.concat(parts).toString("utf8"));
    response.writeHead(input === undefined ? 400 : 200, HEADERS).end(REPLY);
  });
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
