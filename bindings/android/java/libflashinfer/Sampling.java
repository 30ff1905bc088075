package libflashinfer;

/** How tokens are chosen: the fields of flashinfer_sampler_options. As made, the likeliest each time. */
public final class Sampling {
    public float temperature;
    public int topK;
    public float topP;
    public float minP;
    public float repetitionPenalty;
    public long seed;
}
