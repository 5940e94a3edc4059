// Private to dist: a Transport between processes whose ranks watch each other: the end of one makes
// the calls of the others fail with a message that names it. See monitor.h.
#pragma once

#include <memory>

#include <tendril/dist/environment.h>
#include <tendril/dist/host/transport.h>

namespace tendril::dist {

/// Collective, called by the thread that makes the calls of `world`, the transport of all ranks;
/// what split() makes of it is watched as well.
TENDRIL_API std::unique_ptr<Transport> watch_transport(std::unique_ptr<Transport> world,
                                                       const InitOptions& options);

}  // namespace tendril::dist
