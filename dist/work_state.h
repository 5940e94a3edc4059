// Private to dist: what stands behind a Work. An engine derives its own.
#pragma once

#include <tendril/dist/process_group.h>

namespace tendril::dist {

struct Work::State {
  virtual ~State() = default;
  virtual void wait() = 0;  // any number of times, by any thread
  virtual bool is_done() = 0;
};

}  // namespace tendril::dist
