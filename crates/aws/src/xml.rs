//! XML as AWS answers: elements and texts, read once from front to end, bounded, and never repeated in an error.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// How much of a document is read.
pub(crate) struct Bounds {
    /// Elements inside each other.
    pub(crate) depth: usize,
    pub(crate) elements: usize,
}

/// Who takes a document apart. Both are told the names from the outermost element to this one, without namespaces.
pub(crate) trait Taker {
    /// An element begins. Errors: why it cannot stand there.
    fn enters(&mut self, _path: &[String]) -> Result<(), &'static str> {
        Ok(())
    }

    /// An element ends; its own text, behind the last element in it. Errors: why it cannot be that.
    fn leaves(&mut self, path: &[String], text: String) -> Result<(), &'static str>;
}

/// Reads a whole document. Errors: where it is not understood, without a word of what it says.
pub(crate) fn walk(body: &[u8], bounds: &Bounds, taker: &mut impl Taker) -> Result<(), String> {
    let mut reader = Reader::from_reader(body);
    let (mut path, mut text, mut elements) = (Vec::<String>::new(), String::new(), 0);
    loop {
        let place = reader.buffer_position();
        let bad = |why: &str| format!("{why} at byte {place} of {}", body.len());
        match reader.read_event().map_err(|_quotes_the_answer| bad("no XML"))? {
            Event::Start(start) => {
                elements += 1;
                if path.len() >= bounds.depth || elements > bounds.elements {
                    return Err(bad("too many elements"));
                }
                path.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                text.clear();
                taker.enters(&path).map_err(bad)?;
            }
            Event::Text(more) => text.push_str(&more.decode().map_err(|_quotes| bad("no UTF-8"))?),
            Event::CData(more) => text.push_str(&more.decode().map_err(|_quotes| bad("no UTF-8"))?),
            Event::GeneralRef(reference) => {
                if let Ok(Some(character)) = reference.resolve_char_ref() {
                    text.push(character);
                } else {
                    let name = reference.decode().map_err(|_quotes| bad("no UTF-8"))?;
                    text.push_str(resolve_xml_entity(&name).ok_or_else(|| bad("an unknown entity"))?);
                }
            }
            Event::End(_) => {
                taker.leaves(&path, std::mem::take(&mut text)).map_err(bad)?;
                path.pop();
            }
            Event::Eof if path.is_empty() && elements > 0 => return Ok(()),
            Event::Eof => return Err(bad("an early end")),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}
