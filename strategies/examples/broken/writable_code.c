/* writable_code.c: an address stands among its code, so its code would have to be changed at load: refused at stage elf.
 * Link it with -Wl,-z,notext, or the linker refuses it first. */
#include "sound.h"
__asm__(".text\n"
        ".quad lb_strategy_entry_v1\n");
static const lb_strategy_table TABLE = {SOUND};
ENTRY(&TABLE)
