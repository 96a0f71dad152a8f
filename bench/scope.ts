/**
 * What a run has made and must unmake: processes, cgroups, namespaces, folders. Undone in reverse order, whether the
 * run ends, fails or is interrupted.
 */
export class Scope {
  readonly #undo: (() => void | Promise<void>)[] = [];
  #closing: Promise<void> | undefined;

  add(undo: () => void | Promise<void>): void {
    this.#undo.push(undo);
  }

  close(): Promise<void> {
    this.#closing ??= this.#run();
    return this.#closing;
  }

  async #run(): Promise<void> {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        process.stderr.write(`while cleaning up: ${(error as Error).message}\n`);
      }
    }
  }
}

/** Runs `body` and cleans up after it. A first signal cleans up and ends; a second one does not hurry it. */
export async function inScope(body: (scope: Scope) => Promise<void>): Promise<void> {
  const scope = new Scope();
  let interrupted = false;
  const interrupt = (status: number) => {
    if (interrupted) return;
    interrupted = true;
    process.stderr.write("\ninterrupted: cleaning up\n");
    void scope.close().then(() => process.exit(status));
  };
  process.on("SIGINT", () => interrupt(130));
  process.on("SIGTERM", () => interrupt(143));
  process.on("SIGHUP", () => interrupt(129));
  try {
    await body(scope);
  } catch (error) {
    // What fails because the ground is being cleared is no news.
    if (!interrupted) throw error;
  } finally {
    await scope.close();
    if (interrupted) await new Promise(() => undefined); // the handler ends the process
  }
}
