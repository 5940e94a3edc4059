// The file's part of the configuration.
#pragma once

#include <string>

#include <tendril/dist/launch/config.h>
#include <tendril/dist/launch/document.h>

namespace tendril::launch {

/// Sets what the document says. Error that lists every name that is not known, with the nearest
/// one that is.
void apply_document(LaunchConfig& config, const Node& document, const std::string& origin);

}  // namespace tendril::launch
