// The flags of `plan` beside those of `generate`.
#pragma once

#include <CLI/CLI.hpp>

#include "launch/commands.h"

namespace longtake {

void add_plan_flags(CLI::App* command, PlanOptions& p);

}  // namespace longtake
