/* refuses_host.c: its entry answers NULL, "I cannot work with this host": refused at stage version. */
#include "sound.h"
const lb_strategy_table UNUSED = {SOUND};
ENTRY(NULL)
