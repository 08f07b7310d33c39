/* wrong_major.c: the entry of major version 1 returns a table of major version 2. Refused at stage version. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .abi_major = 2};
ENTRY(&TABLE)
