import Foundation
import libflashinfer

/// What the library refused or failed at: its code, and its text with what to do.
public struct Failure: Error, CustomStringConvertible {
    public let code: Int32
    public let description: String

    init(_ code: Int32, _ error: inout flashinfer_error) {
        self.code = code
        if error.code == 0 {
            description = String(cString: flashinfer_error_describe(code))
        } else {
            let bytes = MemoryLayout.size(ofValue: error.text)
            description = withUnsafePointer(to: &error.text) {
                $0.withMemoryRebound(to: CChar.self, capacity: bytes) { String(cString: $0) }
            }
        }
    }
}

/// Run a call that fills an error record, and throw what it failed at.
func check(_ call: (inout flashinfer_error) -> Int32) throws {
    var error = flashinfer_error()
    flashinfer_error_init(&error, MemoryLayout<flashinfer_error>.size)
    let code = call(&error)
    if code != 0 { throw Failure(code, &error) }
}

/// A model of libflashinfer: a sketch to start an application's own binding from. Calls on it and its sessions may come from
/// any thread and wait for each other, so none belongs on the main thread, but for Session.stop(). Sessions hold their model,
/// so it is the last to be released.
public final class Model {
    let handle: OpaquePointer

    /// contextTokens: positions of a session, 0: all the model has. Their keys and values are a large part of the smallest
    /// budget, so a phone asks for no more than it needs. budget: bytes; 0: everything in memory.
    public init(path: String, contextTokens: UInt32, budget: UInt64) throws {
        var options = Model.options(contextTokens)
        var made: OpaquePointer?
        options.memory_budget = budget
        try check { flashinfer_model_open(path, &options, &made, &$0) }
        handle = made!
    }

    deinit {
        flashinfer_model_close(handle)
    }

    /// What budgets a file can have, without opening it: minimum_bytes, maximum_bytes.
    public static func plan(path: String, contextTokens: UInt32) throws -> flashinfer_plan {
        var options = Model.options(contextTokens)
        var plan = Model.emptyPlan()
        try check { flashinfer_plan_file(path, &options, &plan, &$0) }
        return plan
    }

    /// The plan it runs under: planned_bytes is what is held.
    public func plan() -> flashinfer_plan {
        var plan = Model.emptyPlan()
        flashinfer_model_plan(handle, &plan)
        return plan
    }

    /// Shrink or grow; see MemoryBudget. Waits for the call that runs. Refused below what works; the old budget stays in
    /// force then.
    public func setBudget(_ bytes: UInt64) throws {
        try check { flashinfer_model_set_budget(handle, bytes, &$0) }
    }

    func info() -> flashinfer_info {
        var info = flashinfer_info()
        info.size = UInt32(MemoryLayout<flashinfer_info>.size)
        flashinfer_model_info(handle, &info)
        return info
    }

    private static func options(_ contextTokens: UInt32) -> flashinfer_options {
        var options = flashinfer_options()
        flashinfer_options_init(&options, MemoryLayout<flashinfer_options>.size)
        options.context_tokens = contextTokens
        return options
    }

    private static func emptyPlan() -> flashinfer_plan {
        var plan = flashinfer_plan()
        plan.size = UInt32(MemoryLayout<flashinfer_plan>.size)
        return plan
    }
}
