//! A prompt's continuation as an iterator over pieces of text.

use crate::error::{ErrorCode, Result};
use crate::numbers::index;
use crate::sampler::{Sampler, SamplerOptions};
use crate::session::Session;
use crate::text::Decoder;
use crate::tokenize::TokenizeOptions;

/// How a text is continued.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    tokens: Option<usize>,
    stop: Vec<String>,
    sampling: SamplerOptions,
    echo: bool,
    special: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            tokens: None,
            stop: Vec::new(),
            sampling: SamplerOptions::new(),
            echo: false,
            special: false,
        }
    }
}

impl GenerateOptions {
    /// To the text's end, greedy, without the prompt.
    pub fn new() -> Self {
        GenerateOptions::default()
    }

    /// End after so many tokens, if the model does not end the text before and the context has room.
    #[must_use]
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// End before the first of these texts that comes, in place of those given before. No part of one is given, wherever
    /// tokens begin and end. The prompt may hold them.
    #[must_use]
    pub fn stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    setters! {
        /// How tokens are chosen.
        sampling: SamplerOptions,
        /// The first pieces are the prompt's own.
        echo: bool,
        /// Texts such as `</s>` in the prompt become their control token.
        special: bool,
    }
}

impl Session {
    /// Run a prompt and go on from there. The prompt is run before this returns; every piece costs a token or a few.
    ///
    /// Ends after [`GenerateOptions::tokens`], before a text of [`GenerateOptions::stop`], at the model's end of text, or when the context is full.
    ///
    /// At position 0 the prompt begins with the model's bos token if it wants one. Afterwards the session holds prompt
    /// and continuation but for the last token, which was chosen and not run.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generate<'_>> {
        let how = TokenizeOptions::new()
            .bos(self.position() == 0)
            .special(options.special);
        let tokens = self.model().tokenize(prompt, how)?;
        self.generate_from(tokens, options)
    }

    /// The same for a prompt of token ids; none goes on from the logits there are.
    pub fn generate_from(
        &mut self,
        prompt: Vec<i32>,
        options: &GenerateOptions,
    ) -> Result<Generate<'_>> {
        let info = self.model().info();
        let mut sampler = Sampler::new(&options.sampling, index(info.vocab_count))?;
        let mut decoder = self.model().decoder()?;
        decoder.set_stops(&options.stop)?;
        if options.echo {
            decoder.set_stops::<String>(&[])?; // not yet: the prompt may hold one
        }
        if !prompt.is_empty() {
            self.eval(&prompt)?;
        }
        for token in &prompt {
            sampler.accept(*token)?;
        }
        Ok(Generate {
            session: self,
            decoder,
            sampler,
            eos: info.eos_token,
            echoed: if options.echo { 0 } else { prompt.len() },
            prompt_count: prompt.len(),
            wanted: options.tokens,
            stop: options.stop.clone(),
            tokens: prompt,
            ended: false,
        })
    }
}

/// Pieces of text, as [`Session::generate`] finds them. Ends after an error.
#[derive(Debug)]
pub struct Generate<'a> {
    session: &'a mut Session,
    decoder: Decoder,
    sampler: Sampler,
    eos: Option<i32>,
    tokens: Vec<i32>, // the prompt, then what was generated
    prompt_count: usize,
    echoed: usize, // of the prompt
    wanted: Option<usize>,
    stop: Vec<String>,
    ended: bool,
}

impl Generate<'_> {
    /// The tokens so far, the prompt's not among them.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens[self.prompt_count..]
    }

    /// The session, such as for its position.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// The next token: of the prompt while it is echoed, then chosen. None ends the text.
    fn next_token(&mut self) -> Result<Option<i32>> {
        if self.echoed < self.prompt_count {
            self.echoed += 1;
            return Ok(Some(self.tokens[self.echoed - 1]));
        }
        let count = self.tokens().len();
        if Some(count) == self.wanted || self.decoder.stopped().is_some() {
            return Ok(None);
        }
        if count == 0 {
            self.decoder.set_stops(&self.stop)?;
        }
        if count > 0 && !self.step_if_room(self.tokens[self.tokens.len() - 1])? {
            return Ok(None);
        }
        let token = match self.session.logits() {
            Some(logits) => self.sampler.sample(logits)?,
            None => return Ok(None),
        };
        if Some(token) == self.eos {
            return Ok(None);
        }
        self.tokens.push(token);
        Ok(Some(token))
    }

    fn step_if_room(&mut self, token: i32) -> Result<bool> {
        match self.session.step(token) {
            Err(error) if error.code() == ErrorCode::Context => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// The next piece, which may be empty.
    fn next_piece(&mut self) -> Result<String> {
        let piece = match self.next_token()? {
            Some(token) => self.decoder.push(token)?,
            None => {
                self.ended = true;
                self.decoder.finish()?
            }
        };
        Ok(piece.to_string())
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.next_piece() {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => return Some(Ok(piece)),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Generate<'_> {}
