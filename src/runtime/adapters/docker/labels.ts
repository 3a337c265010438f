export type Labels = Readonly<Record<string, string>>;

/** Which data directory an image, container or network belongs to. What lacks it is not ours. */
export const DAEMON_LABEL = "rpx.daemon";
export const ENDPOINT_LABEL = "rpx.endpoint";
/** Of an image: the release that it was built for first. Later ones of the same content use it too. */
export const RELEASE_LABEL = "rpx.release";
/** Digest of all that an image was built from. */
export const CONTENT_LABEL = "rpx.content";
