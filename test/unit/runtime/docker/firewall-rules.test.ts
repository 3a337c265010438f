import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  chainRules,
  type Openings,
  planRemoval,
  planRules,
  ruleNames,
  spelledNetwork,
} from "../../../../src/runtime/adapters/docker/firewall-rules.ts";

const NAMES = ruleNames("k3v9x2m1q8w7e6");
const OTHER = ruleNames("another");
const TAG = NAMES.bridge.slice("rpx".length);
const OPENINGS: Openings = {
  listener: { address: "172.18.0.1", port: 7791 },
  resolvers: ["10.0.0.2"],
  networks: ["192.168.7.0/24"],
};
const RULES = chainRules(NAMES, 4, OPENINGS);
const IN_JUMP = `-A INPUT -i ${NAMES.bridge} -j ${NAMES.input}`;

/** A table with an engine (20.10) and none of our rules, as `iptables -S` printed it. */
const ENGINE = `-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN`;
const NO_ENGINE = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT";

/** The table after a plan, with each chain's rules in order, as far as plans go. */
function apply(saved: string, plan: string | null): string {
  if (plan === null) return saved;
  let lines = saved.split("\n");
  for (const line of plan.split("\n")) {
    const [verb = "", chain = ""] = line.split(" ");
    if (line.startsWith(":")) {
      const name = verb.slice(1);
      lines = lines.filter((one) => one !== `-N ${name}` && !one.startsWith(`-A ${name} `));
      lines.push(`-N ${name}`);
    } else if (verb === "-A") lines.push(line);
    else if (verb === "-D") lines.splice(lines.indexOf(line.replace("-D", "-A")), 1);
    else if (verb === "-I") {
      const at = lines.findIndex((one) => one.startsWith(`-A ${chain} `));
      lines.splice(at < 0 ? lines.length : at, 0, line.replace(/^-I (\S+) 1/, "-A $1"));
    } else if (verb === "-F") lines = lines.filter((one) => !one.startsWith(`-A ${chain} `));
    else if (verb === "-X") lines = lines.filter((one) => one !== `-N ${chain}`);
  }
  return lines.join("\n");
}

describe("names", () => {
  test("are a daemon's own and fit: interfaces 15 characters, chains 28", () => {
    expect(NAMES).toEqual({
      bridge: expect.stringMatching(/^rpx[0-9a-f]{12}$/),
      input: `RPX-IN-${TAG}`,
      forward: `RPX-FWD-${TAG}`,
    });
    expect(OTHER.bridge).not.toBe(NAMES.bridge);
  });

  test("whatever the id", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (id) => {
        const { bridge, input, forward } = ruleNames(id);
        return bridge.length <= 15 && input.length <= 28 && forward.length <= 28;
      }),
    );
  });
});

describe("rules", () => {
  test("IPv4: answers, the worker port, name servers, opened networks; then the internet alone", () => {
    const refuse = "-j REJECT --reject-with icmp-admin-prohibited";
    expect(RULES.map((rule) => rule.replaceAll(TAG, "TAG"))).toEqual([
      "-A RPX-IN-TAG -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j ACCEPT",
      "-A RPX-IN-TAG -d 172.18.0.1/32 -p tcp -m tcp --dport 7791 -j ACCEPT",
      "-A RPX-IN-TAG -d 10.0.0.2/32 -p udp -m udp --dport 53 -j ACCEPT",
      "-A RPX-IN-TAG -d 10.0.0.2/32 -p tcp -m tcp --dport 53 -j ACCEPT",
      `-A RPX-IN-TAG ${refuse}`,
      `-A RPX-FWD-TAG -o rpxTAG ${refuse}`,
      "-A RPX-FWD-TAG -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN",
      "-A RPX-FWD-TAG -d 172.18.0.1/32 -p tcp -m tcp --dport 7791 -j RETURN",
      "-A RPX-FWD-TAG -d 10.0.0.2/32 -p udp -m udp --dport 53 -j RETURN",
      "-A RPX-FWD-TAG -d 10.0.0.2/32 -p tcp -m tcp --dport 53 -j RETURN",
      "-A RPX-FWD-TAG -d 192.168.7.0/24 -j RETURN",
      `-A RPX-FWD-TAG -m conntrack --ctstate DNAT --ctdir ORIGINAL ${refuse}`,
      `-A RPX-FWD-TAG -d 0.0.0.0/8 ${refuse}`,
      `-A RPX-FWD-TAG -d 10.0.0.0/8 ${refuse}`,
      `-A RPX-FWD-TAG -d 100.64.0.0/10 ${refuse}`,
      `-A RPX-FWD-TAG -d 127.0.0.0/8 ${refuse}`,
      `-A RPX-FWD-TAG -d 169.254.0.0/16 ${refuse}`,
      `-A RPX-FWD-TAG -d 168.63.129.16/32 ${refuse}`,
      `-A RPX-FWD-TAG -d 172.16.0.0/12 ${refuse}`,
      `-A RPX-FWD-TAG -d 192.0.0.0/24 ${refuse}`,
      `-A RPX-FWD-TAG -d 192.168.0.0/16 ${refuse}`,
      `-A RPX-FWD-TAG -d 224.0.0.0/4 ${refuse}`,
      `-A RPX-FWD-TAG -d 240.0.0.0/4 ${refuse}`,
    ]);
  });

  test("IPv6: nothing", () => {
    expect(chainRules(NAMES, 6, null)).toEqual([
      `-A ${NAMES.input} -j REJECT --reject-with icmp6-adm-prohibited`,
      `-A ${NAMES.forward} -j REJECT --reject-with icmp6-adm-prohibited`,
    ]);
  });
});

describe("a plan", () => {
  test("makes chains and jumps in one transaction, the forward one where the engine leaves it alone", () => {
    expect(planRules(ENGINE, NAMES, RULES)).toBe(
      [
        "*filter",
        `:${NAMES.input} - [0:0]`,
        `:${NAMES.forward} - [0:0]`,
        ...RULES,
        `-I INPUT 1 -i ${NAMES.bridge} -j ${NAMES.input}`,
        `-I DOCKER-USER 1 -i ${NAMES.bridge} -j ${NAMES.forward}`,
        "COMMIT",
        "",
      ].join("\n"),
    );
  });

  test("takes FORWARD itself where nothing leads to DOCKER-USER first", () => {
    const flushed = ENGINE.split("\n").filter((line) => line !== "-A FORWARD -j DOCKER-USER");
    for (const table of [NO_ENGINE, flushed.join("\n"), `-A FORWARD -j ts-forward\n${ENGINE}`])
      expect(planRules(table, NAMES, RULES)).toContain(`-I FORWARD 1 -i ${NAMES.bridge}`);
  });

  test.each([
    ["an engine", ENGINE],
    ["no engine", NO_ENGINE],
  ])("is null once it was carried out: %s", (_, table) => {
    const done = apply(table, planRules(table, NAMES, RULES));
    expect(planRules(done, NAMES, RULES)).toBeNull();
  });

  const done = apply(ENGINE, planRules(ENGINE, NAMES, RULES));
  const without = (line: string) =>
    done
      .split("\n")
      .filter((one) => one !== line)
      .join("\n");

  test.each<[string, string]>([
    ["a chain was flushed", without("").replaceAll(new RegExp(`\n-A ${NAMES.input} .*`, "g"), "")],
    ["a rule was deleted", without(RULES[4] ?? "")],
    ["a rule was added", `${done}\n-A ${NAMES.forward} -d 10.9.9.9/32 -j RETURN`],
    ["a jump was deleted", without(IN_JUMP)],
    ["a jump is there twice", `${done}\n${IN_JUMP}`],
    ["a jump was moved behind another rule", `${without(IN_JUMP)}\n-A INPUT -j ACCEPT\n${IN_JUMP}`],
    ["the engine has come, or gone", without("-A FORWARD -j DOCKER-USER")],
  ])("mends what was changed: %s", (_, table) => {
    const plan = planRules(table, NAMES, RULES);
    expect(plan).not.toBeNull();
    const mended = apply(table, plan);
    expect(planRules(mended, NAMES, RULES)).toBeNull();
    expect(mended.split("\n").filter((line) => line.endsWith(`-j ${NAMES.input}`))).toEqual([IN_JUMP]);
  });

  test("follows a new address", () => {
    const moved = chainRules(NAMES, 4, { ...OPENINGS, listener: { address: "172.30.0.1", port: 7791 } });
    expect(planRules(apply(done, planRules(done, NAMES, moved)), NAMES, moved)).toBeNull();
  });

  test("two daemons do not push each other off the first place", () => {
    const others = chainRules(OTHER, 4, OPENINGS);
    const both = apply(done, planRules(done, OTHER, others));
    expect(planRules(both, NAMES, RULES)).toBeNull();
    expect(planRules(both, OTHER, others)).toBeNull();
  });
});

describe("removal", () => {
  const others = chainRules(OTHER, 4, OPENINGS);
  const foreign = apply(ENGINE, planRules(ENGINE, OTHER, others));

  test("leaves the table as it was, other daemons' rules included", () => {
    const both = apply(foreign, planRules(foreign, NAMES, RULES));
    expect(apply(both, planRemoval(both, NAMES))).toBe(foreign);
  });

  test("has nothing to do where there is nothing", () => {
    expect(planRemoval(foreign, NAMES)).toBeNull();
  });
});

test.each([
  ["192.168.7.0/24", "192.168.7.0/24"],
  ["10.1.2.3/8", "10.0.0.0/8"],
  ["172.31.255.255/12", "172.16.0.0/12"],
  ["10.9.8.7", "10.9.8.7/32"],
  ["203.0.113.255/1", "128.0.0.0/1"],
  ["0.0.0.0/0", null],
  ["10.0.0.0/33", null],
  ["10.0.0.0/8/8", null],
  ["10.0.0.0/8 -j ACCEPT\n-A INPUT", null],
  ["fd00::/8", null],
  ["nas.example", null],
  ["", null],
])("an opened network: %j", (text, spelled) => expect(spelledNetwork(text)).toBe(spelled));
