import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { RpxError } from "../../contract/error.ts";

/** A name or IPv4 address, or a bracketed IPv6 address, each with an optional port. */
const HOST_HEADER = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?$/;

/**
 * The name or address of a Host header: lower case, no port, no brackets. Null when it is missing, doubled or not of that form.
 * Nothing is resolved or rewritten: `localhost.`, `127.1` and `2130706433` stay themselves, so no allow-list holds them.
 */
export function readHost(header: string | undefined): string | null {
  const match = HOST_HEADER.exec(header?.toLowerCase() ?? "");
  return match === null ? null : (match[1] ?? match[2] ?? null);
}

/**
 * Refuses what a web page elsewhere could send to a listener on this machine: another name for it (DNS rebinding, 421) and requests
 * that a browser marks as coming from another site or origin (403). The origin's scheme is not compared: a proxy may have ended TLS.
 */
export function refuseForeign(request: IncomingMessage, allowedHosts: ReadonlySet<string>): void {
  const { headers } = request;
  refuseTarget(request.url);
  const host = readHost(headers.host);
  if (host === null || !allowedHosts.has(host)) {
    throw new RpxError("misdirected", "this daemon does not answer to that Host", {
      hint: "Call it by its loopback name or address, or add the name to the allowed hosts.",
    });
  }
  refuseOtherSite(headers);
}

/** An absolute target names a host of its own, which the Host header need not match. */
function refuseTarget(target: string | undefined): void {
  if (target?.startsWith("/")) return;
  throw new RpxError("bad_request", "the request target is not a path");
}

function refuseOtherSite(headers: IncomingHttpHeaders): void {
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") throw foreign();
  const { origin } = headers;
  if (origin !== undefined && !isOwnOrigin(origin, headers.host ?? "")) throw foreign();
}

function isOwnOrigin(origin: string, host: string): boolean {
  const start = origin.indexOf("://");
  return start > 0 && origin.slice(start + 3).toLowerCase() === host.toLowerCase();
}

function foreign(): RpxError {
  return new RpxError("forbidden", "pages of other sites may not call this daemon", {
    why: "The browser marked this request as coming from another origin.",
  });
}
