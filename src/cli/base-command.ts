import { Command, Flags } from "@oclif/core";
import { type Client, createClient } from "../client/client.ts";
import type { Send } from "../client/send.ts";
import { createHttpSend } from "../client/send-http.ts";
import { compareVersions } from "../client/version.ts";
import { createInterrupt, type Interrupt } from "./interrupt.ts";
import { printJson, printLine, talk } from "./output.ts";
import { createPatientSend } from "./patient-send.ts";
import { createProgress, type Progress } from "./progress.ts";
import { readSettings, type SettingFlags, type Settings } from "./settings.ts";

/** A client and what it was made from. */
export type Connection = { readonly client: Client; readonly settings: Settings };

/** Topics whose commands outlast a daemon that is away for a moment, and load a client library for it. The others start without (D23). */
const PATIENT_TOPICS: readonly string[] = ["endpoint", "image", "key", "registry", "secret", "worker"];

/**
 * What all commands share: `--json`, the choice of a daemon, Ctrl-C. A command returns nothing: it prints its answer with
 * {@link answer}, and throws RpxErrors, which `main` shows.
 */
export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true;
  static override baseFlags = {
    json: Flags.boolean({ summary: "Print the answer, or the error, as JSON", helpGroup: "GLOBAL" }),
    url: Flags.string({
      summary: "Address of the daemon (RPX_URL, RUNPOD_ENDPOINT_BASE_URL)",
      helpGroup: "GLOBAL",
      helpValue: "URL",
    }),
    context: Flags.string({
      summary: "A daemon by its name (RPX_CONTEXT)",
      helpGroup: "GLOBAL",
      helpValue: "NAME",
    }),
    "data-dir": Flags.string({
      summary: "Data directory of a daemon of this user (RPX_DATA_DIR)",
      helpGroup: "GLOBAL",
      helpValue: "DIR",
    }),
  };

  private held: Interrupt | undefined;
  private progress: Progress | undefined;

  /** Ctrl-C: the first stops what waits on its signal. */
  protected get interrupt(): Interrupt {
    this.held ??= createInterrupt();
    return this.held;
  }

  /** Errors leave as they are; oclif would print them in its own way. */
  protected override async catch(error: Error): Promise<void> {
    throw error;
  }

  protected override async finally(_error: Error | undefined): Promise<void> {
    this.progress?.done(); // before main shows an error
    this.held?.dispose();
  }

  /** Progress on stderr, which ends with the command. */
  protected async openProgress(): Promise<Progress> {
    this.progress ??= await createProgress({ isJson: this.jsonEnabled() });
    return this.progress;
  }

  /** A client of the daemon that the settings name. */
  protected connect(flags: SettingFlags): Connection {
    const settings = readSettings(flags);
    const send = this.createSend(settings);
    let isCompared = false;
    const onVersion = (version: string): void => {
      if (isCompared) return;
      isCompared = true;
      const warning = compareVersions(this.config.version, version);
      if (warning !== null) talk(`warning: ${warning}`);
    };
    return { client: createClient({ send, onVersion, signal: this.interrupt.signal }), settings };
  }

  private createSend({ url, key }: Settings): Send {
    const target = { url: url.value, key: key.value };
    if (!PATIENT_TOPICS.includes(this.id?.split(":")[0] ?? "")) return createHttpSend(target);
    return createPatientSend(target, {
      isJson: this.jsonEnabled(),
      shown: () => this.progress,
      isRefusalFinal: url.from === "default",
    });
  }

  /** Prints the answer: the value with `--json`, else the text; an empty text prints nothing. */
  protected answer(value: unknown, text: () => string): void {
    if (this.jsonEnabled()) {
      printJson(value);
      return;
    }
    const shown = text();
    if (shown !== "") printLine(shown);
  }
}
