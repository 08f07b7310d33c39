/* private_library.c: it needs a library of its own, which is built from this file with -DLIBRARY. Refused at stage elf: the dynamic
 * linker finds a library by name, so the next build of the strategy would run with the library of the first. */
#ifdef LIBRARY
__attribute__((visibility("default"))) int which_build(void) { return LIBRARY; }
#else
#include "sound.h"
int which_build(void);
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  (void)strategy, (void)picker, (void)backends, (void)request;
  out->index = (uint32_t)which_build();
  return LB_OK;
}
static const lb_strategy_table TABLE = {SOUND, .pick = pick};
ENTRY(&TABLE)
#endif
