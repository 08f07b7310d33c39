/* missing_hook.c: a required hook is NULL. Refused at stage version with the name of the hook. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .picker_free = NULL};
ENTRY(&TABLE)
