/* missing_hook.c: a required hook is NULL: refused at stage version, which names it. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .picker_free = NULL};
ENTRY(&TABLE)
