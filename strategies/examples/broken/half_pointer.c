/* half_pointer.c: its table ends in the middle of `state_export`: loads, and that hook reads as absent, not as half an address. */
#include "sound.h"
static lb_status export_state(lb_strategy *strategy, lb_sink *out) { (void)strategy, (void)out; return LB_OK; }
static const lb_strategy_table TABLE = {
    SOUND, .state_schema = TEXT("half"), .state_export = export_state,
    .size = offsetof(lb_strategy_table, state_export) + 4};
ENTRY(&TABLE)
