/* greedy_body.c: asks for more of each body than a host holds. A host must refuse it. */
#include "sound.h"

static const lb_strategy_table TABLE = {SOUND, .body_bytes = LB_BODY_BYTES_MAX + 1};
ENTRY(&TABLE)
