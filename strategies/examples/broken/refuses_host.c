/* refuses_host.c: its entry returns NULL, which refuses this host. Refused at stage version. */
#include "sound.h"
const lb_strategy_table UNUSED = {SOUND};
ENTRY(NULL)
