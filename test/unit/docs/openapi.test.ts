import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { OPENAPI_PATH, openApiText } from "../../../scripts/openapi.ts";
import { API_ROUTES, JOB_ROUTES, type Route, WORKER_ROUTES } from "../../../src/contract/routes.ts";

type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
};

describe("docs/openapi.json", () => {
  const text = readFileSync(OPENAPI_PATH, "utf8");
  const document: Document = JSON.parse(text);

  test("is what scripts/openapi.ts writes: run `node scripts/openapi.ts` when it is not", () => {
    expect(text).toBe(openApiText());
  });

  test("has every method of every route, and nothing else", () => {
    const routes: Route[] = [JOB_ROUTES, API_ROUTES, WORKER_ROUTES].flatMap((table) => Object.values(table));
    const expected = routes.flatMap(({ methods, path }) =>
      methods.map((method) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`),
    );
    const found = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(found.toSorted()).toEqual(expected.toSorted());
  });

  test("names each operation once", () => {
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("refers only to what it holds", () => {
    const references = [...text.matchAll(/"\$ref": "#\/([^"]+)"/g)].map((match) => match[1] ?? "");
    expect(references.length).toBeGreaterThan(50);
    const missing = references.filter((reference) => {
      const value = reference
        .split("/")
        .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], document);
      return value === undefined;
    });
    expect(missing).toEqual([]);
  });
});
