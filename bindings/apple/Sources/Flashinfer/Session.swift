import Foundation
import libflashinfer

/// A sequence that lives over several calls: say() gives it text, generate() goes on from all it has heard and told. One
/// thread at a time calls these; stop() is for a button, from any thread.
public final class Session {
    /// Why generate() ended.
    public enum End {
        case limit    // as many tokens as were asked for
        case text     // the model ended its text
        case stopped  // stop(), or the listener
    }

    private let model: Model  // released after this
    private let session: OpaquePointer
    private let sampler: OpaquePointer
    private let decoder: OpaquePointer
    private let endToken: Int32
    private var told: Int32?  // was delivered and must be run before the next one
    private let gate = NSLock()
    private var pressed = false  // behind the gate

    /// sampling: change what flashinfer_sampler_options_init() sets; as it is, the likeliest token each time.
    public init(_ model: Model, sampling change: (inout flashinfer_sampler_options) -> Void = { _ in }) throws {
        var sampling = flashinfer_sampler_options()
        var made: (session: OpaquePointer?, sampler: OpaquePointer?, decoder: OpaquePointer?)
        let info = model.info()

        flashinfer_sampler_options_init(&sampling, MemoryLayout<flashinfer_sampler_options>.size)
        change(&sampling)
        do {
            try check { flashinfer_session_create(model.handle, &made.session, &$0) }
            try check { flashinfer_sampler_create(&sampling, Int(info.vocab_count), &made.sampler, &$0) }
            try check { flashinfer_decoder_create(model.handle, &made.decoder, &$0) }
        } catch {
            flashinfer_sampler_destroy(made.sampler)
            flashinfer_session_destroy(made.session)
            throw error
        }
        self.model = model
        session = made.session!
        sampler = made.sampler!
        decoder = made.decoder!
        endToken = info.eos_token
    }

    deinit {
        flashinfer_sampler_destroy(sampler)
        flashinfer_decoder_destroy(decoder)
        flashinfer_session_destroy(session)
    }

    /// Text of the host's side: a prompt, or an answer. False: stopped, and nothing of it was heard.
    public func say(_ text: String) throws -> Bool {
        let before = flashinfer_session_position(session)
        let begins = before == 0 && told == nil
        let bytes = text.utf8.count
        var ids = [Int32](repeating: 0, count: bytes + 1)  // a token for each byte and one that begins at most
        var rest: UnsafePointer<CChar>?
        var count = 0

        press(false)
        try check {
            flashinfer_tokenize(
                model.handle, text, bytes, begins ? UInt32(FLASHINFER_TOKENIZE_BOS) : 0, &ids, bytes + 1, &count, &$0)
        }
        let heard = Array(ids.prefix(count))
        let all = (told.map { [$0] } ?? []) + heard
        if all.isEmpty { return true }
        do {
            try check { flashinfer_eval(session, all, all.count, &$0) }
        } catch {
            flashinfer_session_rewind(session, before, nil)
            if Session.isCancel(error) { return false }
            throw error
        }
        told = nil
        for id in heard { flashinfer_sampler_accept(sampler, id, nil) }
        flashinfer_decoder_push(decoder, -1, &rest, nil, nil)  // an unfinished character belongs to no text that follows
        return true
    }

    /// Go on by at most so many tokens. What the listener was given is part of the sequence, also after a stop.
    public func generate(tokens: Int, _ listener: (String) -> Bool) throws -> End {
        press(false)
        do {
            for _ in 0..<tokens {
                if isPressed() { return .stopped }
                let token = try next()
                let more = try deliver(token, listener)
                if token == nil { return .text }
                if !more { return .stopped }
            }
        } catch {
            if Session.isCancel(error) { return .stopped }
            throw error
        }
        return .limit
    }

    /// Tokens in the context so far.
    public var position: Int {
        Int(flashinfer_session_position(session)) + (told == nil ? 0 : 1)
    }

    /// Stop the say() or generate() that runs, within milliseconds. Does not wait.
    public func stop() {
        press(true)  // for a press between two calls of the library; the cancel is for one during a call
        flashinfer_session_cancel(session)
    }

    /// The next token, sampled after the one told last was run. nil: the text has ended.
    private func next() throws -> Int32? {
        var token: Int32 = 0
        var count = 0

        if let last = told {
            try check { flashinfer_step(session, last, &$0) }
            told = nil
        }
        let logits = flashinfer_logits(session, &count)
        try check { flashinfer_sampler_sample(sampler, logits, count, &token, &$0) }
        return token == endToken ? nil : token
    }

    private func deliver(_ token: Int32?, _ listener: (String) -> Bool) throws -> Bool {
        var piece: UnsafePointer<CChar>?
        var bytes = 0

        try check { flashinfer_decoder_push(decoder, token ?? -1, &piece, &bytes, &$0) }
        told = token
        guard bytes != 0, let text = piece else { return true }
        return listener(String(cString: text))
    }

    private func press(_ down: Bool) {
        gate.lock()
        pressed = down
        gate.unlock()
    }

    private func isPressed() -> Bool {
        gate.lock()
        defer { gate.unlock() }
        return pressed
    }

    private static func isCancel(_ error: Error) -> Bool {
        (error as? Failure).map { Int($0.code) == Int(FLASHINFER_ECANCELED) } ?? false
    }
}
