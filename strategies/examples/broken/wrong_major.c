/* wrong_major.c: its table says major 2 behind the entry of major 1: refused at stage version. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .abi_major = 2};
ENTRY(&TABLE)
