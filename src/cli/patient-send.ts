import type { Call, Reply, Send } from "../client/send.ts";
import type { HttpTarget } from "../client/send-http.ts";
import { createProgress, type Progress } from "./progress.ts";

/** Silence in ms after which a person at a terminal is told what is waited for. */
const QUIET_MS = 100;

export type PatientSendOptions = {
  readonly isJson: boolean;
  /** The progress that the command itself shows by now: what is waited for becomes a step of it. */
  readonly shown: () => Progress | undefined;
  /** Whether a refused connection is final: true where nothing says that there is a daemon at all. */
  readonly isRefusalFinal: boolean;
};

/**
 * Sends for commands that outlast a daemon's restart, and says on stderr what they wait for: a repeat everywhere, once a call; a slow
 * answer only on a terminal, where the words go away again. The HTTP client is loaded with the first call.
 */
export function createPatientSend(target: HttpTarget, options: PatientSendOptions): Send {
  return async (call) => {
    const notice = createNotice(options);
    const timer = setTimeout(() => notice.slow(`waiting for the daemon at ${target.url}`), QUIET_MS);
    try {
      return await sendOnce(target, call, { notice, isRefusalFinal: options.isRefusalFinal });
    } finally {
      clearTimeout(timer);
      await notice.done();
    }
  };
}

async function sendOnce(
  target: HttpTarget,
  call: Call,
  { notice, isRefusalFinal }: { readonly notice: Notice; readonly isRefusalFinal: boolean },
): Promise<Reply> {
  const { createGotSend } = await import("../client/send-got.ts");
  const onRepeat = ({ reason }: { readonly reason: string }): void => notice.say(`${reason}; trying again`);
  return createGotSend(target, { onRepeat, isRefusalFinal })(call);
}

type Notice = ReturnType<typeof createNotice>;

/** At most one text that lasts, in the command's progress or in one of its own. */
function createNotice({ isJson, shown }: PatientSendOptions) {
  let own: Promise<Progress> | undefined;
  let isSaid = false;
  async function show(text: string): Promise<void> {
    own ??= createProgress({ isJson });
    (await own).step(text);
  }
  return {
    say: (text: string): void => {
      if (isSaid) return;
      isSaid = true;
      const theirs = shown();
      if (theirs === undefined) void show(text);
      else theirs.step(text);
    },
    slow: (text: string): void => {
      if (process.stderr.isTTY && !isJson && !isSaid && shown() === undefined) void show(text);
    },
    done: async (): Promise<void> => {
      (await own)?.done();
    },
  };
}
