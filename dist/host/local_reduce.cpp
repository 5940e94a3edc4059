#include <tendril/dist/host/local_reduce.h>

namespace tendril::dist {

void reduce_locally(const LocalReduction& reduction) {
  using namespace tendril;
  TENDRIL_ISA_CALL(reduce_locally(reduction));
}

}  // namespace tendril::dist
