import { existsSync } from "node:fs";

/** Put before a command, it ends with the process that starts it, even where that is killed outright. */
export const WITH_US = existsSync("/usr/bin/setpriv") ? ["/usr/bin/setpriv", "--pdeathsig", "TERM", "--"] : [];
