/* missing_symbol.c: it calls a function that is not defined. Refused at stage open, not at the first pick. */
#include "sound.h"
lb_status defined_nowhere(void);
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  (void)strategy, (void)picker, (void)backends, (void)request, (void)out;
  return defined_nowhere();
}
static const lb_strategy_table TABLE = {SOUND, .pick = pick};
ENTRY(&TABLE)
