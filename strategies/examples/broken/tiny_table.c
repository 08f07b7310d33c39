/* tiny_table.c: a table of nothing but its size, with garbage where the rest would be: refused at stage version, unread. */
#include "sound.h"
static const uint32_t TABLE[4] = {4, 0xdeadbeef, 0xdeadbeef, 0xdeadbeef};
ENTRY((const lb_strategy_table *)TABLE)
