/** What a snippet is for. */
export const SNIPPET_CLIENTS = ["curl", "python", "js", "openai", "runpodctl"] as const;
export type SnippetClient = (typeof SNIPPET_CLIENTS)[number];

/** An endpoint's address: `url` ends in /v2/{id}. */
export type Address = { readonly url: string; readonly id: string };

/** Lines to paste that call an endpoint. The key stands there by the name of its variable only. */
export function snippet(client: SnippetClient, { url, id }: Address): string {
  const base = url.slice(0, url.lastIndexOf("/"));
  const origin = base.replace(/\/v2$/, "");
  return SNIPPETS[client]({ url, id, base, origin }).join("\n");
}

type Parts = Address & { readonly base: string; readonly origin: string };

const SNIPPETS: Record<SnippetClient, (parts: Parts) => string[]> = {
  curl: ({ url }) => [
    `curl -sS ${url}/runsync \\`,
    `  -H "Authorization: Bearer $RPX_API_KEY" \\`,
    "  -H 'Content-Type: application/json' \\",
    `  -d '{"input": {}}'`,
  ],
  python: ({ base, id }) => [
    "import os",
    "",
    `os.environ["RUNPOD_ENDPOINT_BASE_URL"] = "${base}"`,
    "import runpod",
    "",
    'runpod.api_key = os.environ["RPX_API_KEY"]',
    `print(runpod.Endpoint("${id}").run_sync({"input": {}}))`,
  ],
  js: ({ base, id }) => [
    'import runpodSdk from "runpod-sdk";',
    "",
    `const runpod = runpodSdk(process.env.RPX_API_KEY, { baseUrl: "${base}" });`,
    `console.log(await runpod.endpoint("${id}").runSync({ input: {} }));`,
  ],
  openai: ({ url }) => [
    "import os",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${url}/openai/v1", api_key=os.environ["RPX_API_KEY"])`,
    "print(client.models.list())",
  ],
  runpodctl: ({ origin }) => [
    'export RUNPOD_API_KEY="$RPX_API_KEY"',
    `export RUNPOD_API_URL="${origin}/v1"`,
    `export RUNPOD_GRAPHQL_URL="${origin}/graphql"`,
    "runpodctl serverless list",
  ],
};
