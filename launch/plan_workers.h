// What a number of devices is best used for: stages, branches and attention workers.
#pragma once

#include "launch/run_shape.h"
#include "parallel/attention/worker_plan.h"

namespace longtake {

// parallel.workers as asked for, or by enumeration where it is auto. Fails with ExitCode::usage
// where the devices are too few for what `parallel` says.
WorkerPlan plan_workers(const RunConfig& config, int64_t devices, const PlanSpec& plan,
                        const ModelShape& model, const HardwareProfile& hardware);

// Seconds of the whole video, by simulation where that is quick; of an endless one, of a sweep.
double split_seconds(const DeviceSplit& split, PlanSpec plan, const ModelShape& model,
                     const HardwareProfile& hardware);

}  // namespace longtake
