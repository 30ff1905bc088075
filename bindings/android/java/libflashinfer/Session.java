package libflashinfer;

import java.nio.charset.StandardCharsets;

/**
 * A sequence that lives over several calls: say() gives it text, generate() goes on from all it has heard and told. stop()
 * is for a button, from any thread. Closed before its model, by hand or by Model.close().
 */
public final class Session implements AutoCloseable {
    /** Takes text as it is completed; false stops. */
    public interface Listener {
        boolean piece(String text);
    }

    /** Why generate() ended. */
    public enum End {
        /** As many tokens as were asked for. */
        LIMIT,
        /** The model ended its text. */
        TEXT,
        /** stop(), or the listener. */
        STOPPED
    }

    private final Model model;
    private final Object gate = new Object(); // held while stop() or close() touches the handle, never while anything runs
    private long handle;

    Session(Model model, long modelHandle, Sampling with) {
        this.model = model;
        handle = open(modelHandle, with.temperature, with.topK, with.topP, with.minP, with.repetitionPenalty, with.seed);
    }

    /** Text of the host's side: a prompt, or an answer. False: stopped, and nothing of it was heard. */
    public synchronized boolean say(String text) {
        return say(opened(), Model.bytes(text));
    }

    /**
     * Go on by at most so many tokens. What the listener was given is part of the sequence, also after a stop. An exception
     * of the listener stops, and is thrown on.
     */
    public synchronized End generate(int tokens, Listener listener) {
        return End.values()[generate(opened(), tokens, listener)];
    }

    /** Tokens in the context so far. */
    public synchronized int position() {
        return position(opened());
    }

    /** Stop the say() or generate() that runs, within milliseconds. Does not wait. */
    public void stop() {
        synchronized (gate) {
            if (handle != 0) stop(handle);
        }
    }

    @Override
    public void close() {
        stop();
        synchronized (this) { // once nothing runs
            long closing;
            synchronized (gate) {
                closing = handle;
                handle = 0;
            }
            if (closing != 0) close(closing);
        }
        model.forget(this);
    }

    private long opened() {
        if (handle == 0) throw new IllegalStateException("the session is closed");
        return handle;
    }

    /* Called by the native side with whole UTF-8 characters. */
    private static boolean deliver(Listener listener, byte[] text) {
        return listener.piece(new String(text, StandardCharsets.UTF_8));
    }

    private static native long open(
            long model, float temperature, int topK, float topP, float minP, float repetitionPenalty, long seed);

    private static native boolean say(long handle, byte[] text);

    private static native int generate(long handle, int tokens, Listener listener);

    private static native int position(long handle);

    private static native void stop(long handle);

    private static native void close(long handle);
}
