/* tiny_table.c: a table of 4 bytes, which contain its size, with garbage after it. Refused at stage version; the garbage is not read. */
#include "sound.h"
static const uint32_t TABLE[4] = {4, 0xdeadbeef, 0xdeadbeef, 0xdeadbeef};
ENTRY((const lb_strategy_table *)TABLE)
