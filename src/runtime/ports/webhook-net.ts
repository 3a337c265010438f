/** What one try of a webhook came to. `status` is a short text for people: "200", "timeout after 10 s", "refused". */
export type WebhookAnswer = { readonly accepted: boolean; readonly status: string };

/** The network of webhooks: bounded in time and bytes, redirects not followed (F-28, T-16, T-17). */
export type WebhookNet = {
  post(request: {
    readonly url: string;
    readonly body: string;
    readonly headers: Readonly<Record<string, string>>;
    /** Which addresses may be reached; resolved once and checked before connecting. */
    readonly guard: "public_only" | "private_allowed";
  }): Promise<WebhookAnswer>;
};
