/** The first address of the network that an address is in, as a number. `address` is IPv4, `bits` from 0 to 32. */
export function networkStart(address: string, bits: number): number {
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  return number - (number % 2 ** (32 - bits));
}

/** A number as an IPv4 address. */
export function ipv4Text(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}
