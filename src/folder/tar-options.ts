/**
 * How folders become tars: who packs it, when and on which file system is no content, so that the same folder gives the same bytes.
 * Only the paths that are given are packed. Made anew for each tar: the cache belongs to one.
 */
export function tarOptions() {
  return { portable: true, noDirRecurse: true, mtime: new Date(0), linkCache: noCache() } as const;
}

/** Two names of one file are two files in the tar: whether they share an inode is no content. */
function noCache(): Map<`${number}:${number}`, string> {
  const cache = new Map<`${number}:${number}`, string>();
  cache.set = () => cache;
  return cache;
}
