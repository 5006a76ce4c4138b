//! What a person at the screen sees.

use serde_json::json;

use crate::Boot;

/// Where the text of a VGA card lies, and how much it keeps: the screen, and what was scrolled off it.
const TEXT: u64 = 0xb_8000;
const TEXT_BYTES: u64 = 0x8000;
/// Bytes of a line: a character and its colours, 80 times.
const LINE: usize = 160;
/// Height of the kernel's usual font, pixels.
const FONT_HEIGHT: usize = 16;

/// QEMU's arguments for a card with a screen.
pub fn card() -> Vec<String> {
    ["-device", "VGA"].map(str::to_owned).to_vec()
}

impl Boot<'_> {
    /// The lines of a screen in text mode, as a BIOS leaves it, and those that were scrolled off it: the kernel uses all of
    /// the card's memory in turn, so that they may begin anywhere.
    ///
    /// # Panics
    /// QEMU does not answer.
    pub fn screen_text(&mut self) -> Vec<String> {
        let path = self.session.machine().folder().join("screen.bin");
        let arguments = json!({ "val": TEXT, "size": TEXT_BYTES, "filename": absolute(&path) });
        let qmp = self.session.machine().qmp().expect("QEMU runs");
        qmp.execute("pmemsave", arguments).expect("QEMU shows the guest's memory");
        let memory = std::fs::read(&path).expect("QEMU has written it");
        let line = |cells: &[u8]| {
            let characters: Vec<u8> = cells.iter().copied().step_by(2).collect();
            String::from_utf8_lossy(&characters).trim_end_matches([' ', '\0']).to_owned()
        };
        memory.chunks(LINE).map(line).filter(|line| !line.is_empty()).collect()
    }

    /// How many lines of a screen of pixels, as UEFI leaves it, have something on them that is grey as the kernel's text is,
    /// and how many have any other colour but black.
    ///
    /// # Panics
    /// QEMU does not answer, or not with an image of the kind `P6` (ppm(5)).
    pub fn screen_lines(&mut self) -> (usize, usize) {
        let path = self.session.machine().folder().join("screen.ppm");
        let qmp = self.session.machine().qmp().expect("QEMU runs");
        let dumped = qmp.execute("screendump", json!({ "filename": absolute(&path) }));
        dumped.expect("QEMU takes a picture");
        let picture = std::fs::read(&path).expect("QEMU has written it");
        let mut words = picture.splitn(4, |byte| byte.is_ascii_whitespace());
        assert_eq!(words.next(), Some(&b"P6"[..]));
        let number = |word: Option<&[u8]>| {
            let text = std::str::from_utf8(word.expect("there is another word")).expect("it is text");
            text.parse::<usize>().expect("it is a number")
        };
        let (width, _height) = (number(words.next()), number(words.next()));
        let rest = words.next().expect("the pixels follow");
        let start = rest.iter().position(|byte| *byte == b'\n').expect("behind the largest value") + 1;
        let (mut grey, mut other) = (0, 0);
        for line in rest[start..].chunks(width * 3 * FONT_HEIGHT) {
            let lit = |wanted: bool| {
                line.chunks_exact(3).any(|pixel| pixel != [0; 3] && (pixel == [0xaa; 3]) == wanted)
            };
            grey += usize::from(lit(true));
            other += usize::from(lit(false));
        }
        (grey, other)
    }
}

/// QEMU runs in another folder.
fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).expect("there is a current folder").display().to_string()
}
