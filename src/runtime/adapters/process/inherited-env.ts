type Environment = Readonly<Record<string, string | undefined>>;

/**
 * What a worker inherits from the daemon's own environment, and nothing else: the daemon's holds secrets (its key, the user's
 * tokens), and a worker is somebody's code (T-24). What a handler needs beyond this stands in the endpoint's `[env]`.
 */
const ALLOWED: ReadonlySet<string> = new Set([
  "PATH",
  "HOME",
  "USER",
  "LOGNAME",
  "SHELL",
  "LANG",
  "LANGUAGE",
  "TZ",
  "TMPDIR",
  // A machine whose TLS certificates lie elsewhere.
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "REQUESTS_CA_BUNDLE",
  "CURL_CA_BUNDLE",
  "NODE_EXTRA_CA_CERTS",
  // Where CUDA's libraries lie.
  "LD_LIBRARY_PATH",
  "CUDA_HOME",
  "CUDA_PATH",
]);
const LOCALE = /^LC_[A-Z]+$/;
const PROXY = /^(?:https?|all)_proxy$/i;
const NO_PROXY = /^no_proxy$/i;
/** Workers talk to the daemon on loopback: a proxy must never be asked for it. */
const LOOPBACK = ["127.0.0.1", "localhost", "::1"];
/** What pip is told on this machine: the package index, its certificate, its cache. Never given to workers. */
const PIP = /^PIP_[A-Z_]+$/;

/**
 * The part of an environment that a worker may see. A proxy is passed on unless its address carries a password, which
 * would be a secret of the daemon's user; with one, loopback is always excepted.
 */
export function inheritedEnvironment(environment: Environment): Record<string, string> {
  const proxies = Object.fromEntries(
    entries(environment)
      .filter(([name]) => PROXY.test(name))
      .filter(isOpen),
  );
  return {
    ...pick(environment, (name) => ALLOWED.has(name) || LOCALE.test(name)),
    ...proxies,
    ...(Object.keys(proxies).length === 0 ? {} : proxyExceptions(environment)),
  };
}

/** {@link inheritedEnvironment} for pip, which also needs its own settings and every proxy there is. */
export function pipEnvironment(environment: Environment): Record<string, string> {
  const own = pick(environment, (name) => PIP.test(name) || PROXY.test(name) || NO_PROXY.test(name));
  return { ...inheritedEnvironment(environment), ...own };
}

function pick(environment: Environment, wanted: (name: string) => boolean): Record<string, string> {
  return Object.fromEntries(entries(environment).filter(([name]) => wanted(name)));
}

function entries(environment: Environment): (readonly [string, string])[] {
  return Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
}

function isOpen([, address]: readonly [string, string]): boolean {
  return address !== "" && !address.includes("@");
}

function proxyExceptions(environment: Environment): Record<string, string> {
  const own = environment.no_proxy ?? environment.NO_PROXY ?? "";
  const list = [...new Set([...own.split(",").map((part) => part.trim()), ...LOOPBACK])];
  const text = list.filter((part) => part !== "").join(",");
  return { no_proxy: text, NO_PROXY: text };
}
