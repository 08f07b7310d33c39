/* unique_symbol.c: it defines a symbol that is unique in the process, as C++ does for statics of templates. Refused at stage elf, because
 * a second build would use the variable of the first. In assembler, because C cannot define such a symbol. */
#include "sound.h"
__asm__(".data\n"
        ".globl shared_by_all\n"
        ".type shared_by_all, @gnu_unique_object\n"
        ".size shared_by_all, 8\n"
        "shared_by_all: .quad 0\n"
        ".text\n");
static const lb_strategy_table TABLE = {SOUND};
ENTRY(&TABLE)
