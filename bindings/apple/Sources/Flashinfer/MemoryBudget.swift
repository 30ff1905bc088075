#if os(iOS)
import Foundation
import UIKit
import libflashinfer
import os

/// A budget that follows what iOS says about memory. Choose one before opening:
///
///     let plan = try Model.plan(path: path, contextTokens: 2048)
///     guard let budget = MemoryBudget.choose(minimum: plan.minimum_bytes, maximum: plan.maximum_bytes)
///     else { return }  // too little memory now for this model
///     let model = try Model(path: path, contextTokens: 2048, budget: budget)
///     let follower = MemoryBudget(model)
public final class MemoryBudget {
    private let model: Model
    private var observers: [NSObjectProtocol] = []
    // setBudget() waits for the call that runs, and notifications come on the main thread
    private let queue = DispatchQueue(label: "libflashinfer.budget")

    public init(_ model: Model) {
        self.model = model
        observe(UIApplication.didReceiveMemoryWarningNotification) { $0.shrink() }
        observe(UIApplication.didEnterBackgroundNotification) { $0.shrink() }
        observe(UIApplication.willEnterForegroundNotification) { $0.grow() }
    }

    deinit {
        for observer in observers { NotificationCenter.default.removeObserver(observer) }
    }

    /// Half of what is left to this process before iOS ends it, within what the model can use. nil: not even the smallest
    /// budget that works is left.
    public static func choose(minimum: UInt64, maximum: UInt64, held: UInt64 = 0) -> UInt64? {
        let free = UInt64(os_proc_available_memory()) + held
        if free < minimum { return nil }
        return max(minimum, min(free / 2, maximum))
    }

    private func observe(_ name: Notification.Name, _ change: @escaping (MemoryBudget) -> Void) {
        observers.append(
            NotificationCenter.default.addObserver(forName: name, object: nil, queue: nil) { [weak self] _ in
                guard let self = self else { return }
                self.queue.async { change(self) }
            })
    }

    /// The least that works. A refusal leaves the old budget in force.
    private func shrink() {
        try? model.setBudget(model.plan().minimum_bytes)
    }

    /// To what is left now; what the model holds itself is free to it.
    private func grow() {
        let plan = model.plan()
        guard let budget = MemoryBudget.choose(
            minimum: plan.minimum_bytes, maximum: plan.maximum_bytes, held: plan.planned_bytes)
        else { return }
        if budget > plan.planned_bytes { try? model.setBudget(budget) }
    }
}
#endif
