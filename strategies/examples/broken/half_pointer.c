/* half_pointer.c: its table ends inside the pointer `state_export`. It loads, and this hook reads as absent, not as half an address. */
#include "sound.h"
static lb_status export_state(lb_strategy *strategy, lb_sink *out) { (void)strategy, (void)out; return LB_OK; }
static const lb_strategy_table TABLE = {
    SOUND, .state_schema = TEXT("half"), .state_export = export_state,
    .size = offsetof(lb_strategy_table, state_export) + 4};
ENTRY(&TABLE)
