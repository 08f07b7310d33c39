/* writable_code.c: its code contains an address, so the dynamic linker would have to change the code at load. Refused at stage elf.
 * Link it with -Wl,-z,notext; otherwise the linker refuses it first. */
#include "sound.h"
__asm__(".text\n"
        ".quad lb_strategy_entry_v1\n");
static const lb_strategy_table TABLE = {SOUND};
ENTRY(&TABLE)
