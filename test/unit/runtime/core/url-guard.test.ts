import { BlockList } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addressInHost,
  addressKind,
  checkWebhookUrl,
  isPublicAddress,
  mayReach,
} from "../../../../src/runtime/core/url-guard.ts";

describe("T-16 addresses", () => {
  test.each([
    ["93.184.216.34", "public"],
    ["1.1.1.1", "public"],
    ["100.63.255.255", "public"],
    ["100.128.0.0", "public"],
    ["172.15.255.255", "public"],
    ["172.32.0.0", "public"],
    ["223.255.255.255", "public"],
    ["10.1.2.3", "private"],
    ["172.16.0.1", "private"],
    ["172.31.255.255", "private"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "private"],
    ["198.19.255.255", "private"],
    ["127.0.0.1", "loopback"],
    ["127.255.255.254", "loopback"],
    ["0.0.0.0", "forbidden"],
    ["0.1.2.3", "forbidden"],
    ["169.254.169.254", "forbidden"],
    ["100.100.100.200", "forbidden"],
    ["192.0.0.8", "forbidden"],
    ["192.88.99.1", "forbidden"],
    ["224.0.0.1", "forbidden"],
    ["240.0.0.1", "forbidden"],
    ["255.255.255.255", "forbidden"],
    ["2606:2800:220:1:248:1893:25c8:1946", "public"],
    ["2a00:1450:4001::", "public"],
    ["::1", "loopback"],
    ["fd12:3456:789a::1", "private"],
    ["fd00:ec2::254", "forbidden"],
    ["::", "forbidden"],
    ["fe80::1", "forbidden"],
    ["febf::1", "forbidden"],
    ["fec0::1", "forbidden"],
    ["ff02::1", "forbidden"],
    ["64:ff9b::a9fe:a9fe", "forbidden"],
    ["64:ff9b::8.8.8.8", "forbidden"],
    ["64:ff9b:1::1", "forbidden"],
    ["2002:7f00:1::", "forbidden"],
    ["2001:0:4136:e378::1", "forbidden"],
    ["2001:db8::1", "forbidden"],
    ["::127.0.0.1", "forbidden"],
    ["::ffff:127.0.0.1", "loopback"],
    ["::ffff:7f00:1", "loopback"],
    ["::ffff:10.0.0.1", "private"],
    ["::ffff:169.254.169.254", "forbidden"],
    ["::ffff:0.0.0.0", "forbidden"],
    ["::ffff:8.8.8.8", "private"],
  ])("%s is %s", (address, kind) => {
    expect(addressKind(address)).toBe(kind);
    expect(isPublicAddress(address)).toBe(kind === "public");
  });

  test.each([
    "",
    "localhost",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "010.0.0.1",
    "1.2.3.4 ",
    "::1%eth0",
    ":::1",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "::ffff:1.2.3",
    "g::1",
  ])("%j is no address", (text) => expect(addressKind(text)).toBeNull());

  test("agrees with Node's own block list on every address", () => {
    const special = new BlockList();
    for (const [network, length] of [
      ["0.0.0.0", 8],
      ["10.0.0.0", 8],
      ["100.64.0.0", 10],
      ["127.0.0.0", 8],
      ["169.254.0.0", 16],
      ["172.16.0.0", 12],
      ["192.0.0.0", 24],
      ["192.0.2.0", 24],
      ["192.88.99.0", 24],
      ["192.168.0.0", 16],
      ["198.18.0.0", 15],
      ["198.51.100.0", 24],
      ["203.0.113.0", 24],
      ["224.0.0.0", 4],
      ["240.0.0.0", 4],
    ] as const) {
      special.addSubnet(network, length);
    }
    const near = fc.constantFrom(0, 10, 100, 127, 169, 172, 192, 198, 203, 224);
    const second = fc.oneof(fc.nat(255), fc.constantFrom(0, 16, 18, 31, 51, 64, 88, 127, 168, 254));
    const byte = fc.nat(255);
    fc.assert(
      fc.property(fc.tuple(fc.oneof(byte, near), second, byte, byte), (bytes) => {
        const address = bytes.join(".");
        expect(isPublicAddress(address)).toBe(!special.check(address));
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("T-16 URLs", () => {
  test.each([
    "https://example.com/hook",
    "https://example.com:8443/hook?x=1",
    "https://example.com:80/",
    "https://93.184.216.34/",
    "https://[2606:2800:220:1:248:1893:25c8:1946]/",
    "https://internal.example.com/",
  ])("%s passes both guards", (text) => {
    expect(checkWebhookUrl(text, "public_only").ok).toBe(true);
    expect(checkWebhookUrl(text, "private_allowed").ok).toBe(true);
  });

  test.each([
    ["http://example.com/", "it is not https"],
    ["https://localhost/", "localhost is a private name"],
    ["https://a.localhost./", "a.localhost is a private name"],
    ["https://metadata.google.internal/", "metadata.google.internal is a private name"],
    ["https://printer.local/", "printer.local is a private name"],
    ["https://127.0.0.1/", "127.0.0.1 is not a public address"],
    ["https://127.1/", "127.0.0.1 is not a public address"],
    ["https://2130706433/", "127.0.0.1 is not a public address"],
    ["https://0x7f000001/", "127.0.0.1 is not a public address"],
    ["https://0177.0.0.1/", "127.0.0.1 is not a public address"],
    ["https://%31%32%37.0.0.1/", "127.0.0.1 is not a public address"],
    ["https://１２７.0.0.1/", "127.0.0.1 is not a public address"],
    ["https://[::1]/", "::1 is not a public address"],
    ["https://[::ffff:127.0.0.1]/", "::ffff:7f00:1 is not a public address"],
    ["https://10.0.0.1:8080/", "10.0.0.1 is not a public address"],
  ])("%s is refused unless private targets are allowed", (text, reason) => {
    expect(checkWebhookUrl(text, "public_only")).toEqual({ ok: false, reason });
    expect(checkWebhookUrl(text, "private_allowed").ok).toBe(true);
  });

  test.each([
    ["", "it is not a URL"],
    ["/hook", "it is not a URL"],
    ["example.com", "it is not a URL"],
    ["ftp://example.com/", "it is no http or https URL"],
    ["file:///etc/passwd", "it is no http or https URL"],
    ["javascript:alert(1)", "it is no http or https URL"],
    ["https://user@example.com/", "it holds a user name or password"],
    ["https://user:pass@example.com/", "it holds a user name or password"],
    ["https://example.com:22/", "port 22 is not 80, 443 or from 1024 on"],
    ["https://example.com:0/", "port 0 is not 80, 443 or from 1024 on"],
    ["https://example.com:99999/", "it is not a URL"],
    ["https://169.254.169.254/latest", "169.254.169.254 is not a public address"],
    ["https://[fe80::1]/", "fe80::1 is not a public address"],
    ["https://[64:ff9b::a9fe:a9fe]/", "64:ff9b::a9fe:a9fe is not a public address"],
    ["https://0/", "0.0.0.0 is not a public address"],
    ["https://0xa9fea9fe/", "169.254.169.254 is not a public address"],
    [`https://example.com/${"a".repeat(3_000)}`, "it is longer than 2048 characters"],
  ])("%s is refused by both guards", (text, reason) => {
    expect(checkWebhookUrl(text, "private_allowed")).toEqual({ ok: false, reason });
    expect(checkWebhookUrl(text, "public_only").ok).toBe(false);
  });

  test("T-05 long hostile texts are judged at once", () => {
    for (const text of [
      "https://" + "1.".repeat(25_000),
      "https://[" + ":".repeat(50_000),
      "::".repeat(25_000),
    ]) {
      const start = performance.now();
      checkWebhookUrl(text, "public_only");
      addressKind(text);
      expect(performance.now() - start).toBeLessThan(50);
    }
  });
});

test("mayReach: link-local never, private ones only where allowed", () => {
  expect(mayReach("10.0.0.1", "public_only")).toBe(false);
  expect(mayReach("10.0.0.1", "private_allowed")).toBe(true);
  expect(mayReach("127.0.0.1", "private_allowed")).toBe(true);
  expect(mayReach("169.254.169.254", "private_allowed")).toBe(false);
  expect(mayReach("not an address", "private_allowed")).toBe(false);
});

test("addressInHost takes off the brackets", () => {
  expect(addressInHost("[::1]")).toBe("::1");
  expect(addressInHost("127.0.0.1")).toBe("127.0.0.1");
  expect(addressInHost("example.com")).toBeNull();
});
