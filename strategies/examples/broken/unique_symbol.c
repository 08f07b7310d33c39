/* unique_symbol.c: it defines a symbol that is to be one in the whole process, as C++ does with statics of templates: refused at stage
 * elf, because a second build of it would run on the variable of the first. In assembler, since C has no word for it. */
#include "sound.h"
__asm__(".data\n"
        ".globl shared_by_all\n"
        ".type shared_by_all, @gnu_unique_object\n"
        ".size shared_by_all, 8\n"
        "shared_by_all: .quad 0\n"
        ".text\n");
static const lb_strategy_table TABLE = {SOUND};
ENTRY(&TABLE)
