// The rules that TrainingArguments keep, alone and together.
#pragma once

#include <string>

#include <tendril/trainer/training_arguments.h>

namespace tendril {

/// What TrainingArguments::validate() does; an `origin` (a file's name) begins the message.
void check_arguments(const TrainingArguments& arguments, const std::string& origin = "");

}  // namespace tendril
