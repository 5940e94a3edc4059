// Private to dist: how ranks learn where rank 0 serves the store when nobody has told them, but
// they can already exchange a text.
#pragma once

#include <memory>
#include <string>

#include <tendril/dist/store/store.h>

namespace tendril::dist {

/// Random, so that no other job is taken for this one.
std::string make_token();

/// What rank 0 tells: the port, the token, and all names and addresses of its machine.
std::string describe_address(int port, const std::string& token);

/// Finds the address among these at which the store answers; Error at the deadline.
StoreAddress find_store(const std::string& description, Clock::time_point deadline);

}  // namespace tendril::dist
