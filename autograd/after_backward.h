// The backward pass that runs, and work that has to wait for its end.
#pragma once

#include <functional>

#include <tendril/core/api.h>

namespace tendril {

/// Runs `action` at the end of the backward pass that runs in this thread: of the outermost one, so
/// that nothing of the graph is read any more. Outside of a pass it runs at once. When the pass
/// ends with an Error, the action is dropped.
TENDRIL_API void after_backward(std::function<void()> action);

/// Whether a backward pass runs in this thread.
TENDRIL_API bool in_backward();

}  // namespace tendril
