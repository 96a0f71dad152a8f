/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The kernel half of XLB: hooks -> steps -> maps -> contract. One object, one BTF. See ARCHITECTURE.md. */
#include "common.h"
#include "maps.h"

#include "steps/leave.h"
#include "steps/text.h"
#include "steps/parse.h"
#include "steps/frame.h"
#include "steps/match.h"
#include "steps/hash.h"
#include "steps/outlier.h"
#include "steps/balance.h"

#include "hooks/connect.h"
#include "hooks/sockops.h"
#include "hooks/hash.h"
#include "hooks/route.h"
#include "hooks/edit.h"
#include "hooks/client.h"
#include "hooks/answer.h"
#include "hooks/request.h"
#include "hooks/response.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
