import { describe, expect, test } from "vitest";
import {
  basesOf,
  defaultBase,
  generateDockerfile,
  languageOf,
  nodeInstall,
  pythonInstall,
  type Recipe,
} from "../../../../src/runtime/adapters/docker/dockerfile.ts";

const PYTHON: Recipe = {
  language: "python",
  base: "python:3.11-slim",
  handler: "handler.py",
  install: null,
  copiesCode: true,
  copiesSdk: false,
};
const NODE: Recipe = { ...PYTHON, language: "node", base: "node:24-slim", handler: "src/handler.mjs" };
const dependencies = '{"dependencies":{"left-pad":"1"}}';

describe("generateDockerfile", () => {
  test("python without requirements", () => {
    expect(
      generateDockerfile(PYTHON),
    ).toBe(`# Made by rpx for "handler.py". A Dockerfile in the folder takes its place.
FROM python:3.11-slim
WORKDIR /app
COPY source ./
CMD ["python","-u","handler.py"]
`);
  });

  test("python: requirements are installed before the code is copied", () => {
    const install = pythonInstall("requests==2\n# comment\n--extra-index-url https://example.com/simple\n");
    expect(
      generateDockerfile({ ...PYTHON, install }),
    ).toBe(`# Made by rpx for "handler.py". A Dockerfile in the folder takes its place.
FROM python:3.11-slim
WORKDIR /app
COPY source/requirements.txt ./
RUN python -m pip install --no-cache-dir --no-input --disable-pip-version-check -r requirements.txt
COPY source ./
CMD ["python","-u","handler.py"]
`);
  });

  test.each(["-r base.txt", "-e .", "./wheels/a.whl", "-c limits.txt", "--find-links wheels"])(
    "python: requirements that name files (%s) have the folder",
    (line) => {
      expect(generateDockerfile({ ...PYTHON, install: pythonInstall(`requests\n${line}\n`) })).toContain(
        "WORKDIR /app\nCOPY source ./\nRUN python -m pip install --no-cache-dir --no-input --disable-pip-version-check -r requirements.txt\nCMD",
      );
    },
  );

  test("node with a lock file", () => {
    const install = nodeInstall(dependencies, ["package-lock.json"]);
    expect(
      generateDockerfile({ ...NODE, install }),
    ).toBe(`# Made by rpx for "src/handler.mjs". A Dockerfile in the folder takes its place.
FROM node:24-slim
WORKDIR /app
COPY source/package.json source/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY source ./
CMD ["node","src/handler.mjs"]
`);
  });

  test("node without one", () => {
    const install = nodeInstall(dependencies, [".npmrc"]);
    expect(generateDockerfile({ ...NODE, install })).toContain(
      "COPY source/package.json source/.npmrc ./\nRUN npm install --omit=dev --no-audit --no-fund\n",
    );
  });

  test("in place: packages lie above the folder, no code in the image", () => {
    const install = nodeInstall(dependencies, []);
    expect(
      generateDockerfile({ ...NODE, install, copiesCode: false }),
    ).toBe(`# Made by rpx for "src/handler.mjs". A Dockerfile in the folder takes its place.
FROM node:24-slim
WORKDIR /app
COPY source/package.json ./
RUN npm install --omit=dev --no-audit --no-fund
WORKDIR /app/source
CMD ["node","src/handler.mjs"]
`);
    expect(generateDockerfile({ ...PYTHON, copiesCode: false })).toContain(
      "WORKDIR /app\nWORKDIR /app/source\nCMD",
    );
  });

  test("a copy of the stand-in where the engine cannot see ours", () => {
    expect(generateDockerfile({ ...PYTHON, copiesSdk: true })).toContain(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the Dockerfile's own
      "COPY sdk /opt/rpx/sdk\nENV PYTHONPATH=/opt/rpx/sdk/python/site${PYTHONPATH:+:$PYTHONPATH}\nCOPY source ./\n",
    );
    expect(generateDockerfile({ ...NODE, copiesSdk: true })).toContain(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the Dockerfile's own
      'ENV NODE_OPTIONS="${NODE_OPTIONS:+$NODE_OPTIONS }--import file:///opt/rpx/sdk/node/hook.js"\n',
    );
  });

  test("names that are no words stay one argument, and one line", () => {
    const text = generateDockerfile({ ...PYTHON, handler: 'a "b"\nRUN x.py' });
    expect(text).toContain(String.raw`CMD ["python","-u","a \"b\"\nRUN x.py"]`);
    expect(text.split("\n").filter((line) => line.startsWith("RUN"))).toEqual([]);
  });
});

test.each(["", "# nothing\n\n", "\uFEFF# nothing"])("requirements.txt that asks for nothing: %j", (text) =>
  expect(pythonInstall(text)).toBeNull(),
);

test("package.json: no dependencies, no install; a package of the folder needs the folder", () => {
  expect(nodeInstall('{"name":"x"}', ["package-lock.json"])).toBeNull();
  expect(nodeInstall('{"dependencies":{}}', [])).toBeNull();
  expect(nodeInstall('{"dependencies":{"a":"file:lib"}}', [])?.files).toBeNull();
  expect(nodeInstall("{", [])).not.toBeNull();
});

test("languageOf and defaultBase", () => {
  expect(["a.py", "b.ts", "c.mjs", "d.js"].map(languageOf)).toEqual(["python", "node", "node", "node"]);
  expect(defaultBase("node")).toBe("node:24-slim");
});

test("basesOf: bases of all stages, not the stages themselves", () => {
  const text = `ARG X=1
FROM --platform=linux/amd64 node:24 AS build
RUN echo FROM nothing
from build as Test
FROM $BASE
FROM scratch
  FROM python:3 
FROM test
FROM python:3`;
  expect(basesOf(text)).toEqual(["node:24", "python:3"]);
});
